"""The OpenAPI document: what the routes take and answer, in words. Nothing here answers a request."""
