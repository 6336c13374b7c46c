"""What every kind of test shares: the lab, the whole stack, and a browser."""

pytest_plugins = ["lab.pytest_plugin", "tests.browser.plugin"]
