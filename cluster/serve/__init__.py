"""How the service is deployed: Serve's configurations, and the proxy in front of it."""
