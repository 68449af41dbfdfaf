"""The HTTP surface: FastAPI routers over one service. Knows no Ray, no torch and no decoding."""
