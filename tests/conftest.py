"""What every kind of test shares: the lab's fixtures."""

pytest_plugins = ["lab.pytest_plugin"]
