"""On each spot node: notice that it will go, and drain its Ray node in time."""
