"""Which crystal to label next."""
