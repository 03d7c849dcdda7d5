"""The whole fleet on one machine: servers, processes, first start."""
