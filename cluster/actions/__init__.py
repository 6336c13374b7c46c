"""Every write there is: one function for each operator verb, with its audit entry in the same transaction."""
