"""What a collector is made of: durable intake, forwarding, claims, sending."""
