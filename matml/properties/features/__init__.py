"""Features from elsewhere, such as a potential's, as further base models of the stack."""
