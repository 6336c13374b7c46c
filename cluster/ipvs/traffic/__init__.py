"""What moves weights beside the operators' table: checks, drains, profiles, ramps."""
