"""The one writer each of communities, servers, entities and tokens."""
