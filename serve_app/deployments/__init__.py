"""What Ray Serve runs: the ingress, and the pools of replicas that render."""
