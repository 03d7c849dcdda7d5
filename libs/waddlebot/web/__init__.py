"""HTTP in and out: endpoints, keys, clients, pages."""
