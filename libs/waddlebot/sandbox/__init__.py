"""The local host of community modules: strangers' code, fenced by the kernel."""
