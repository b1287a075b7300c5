"""Models: loading, where they write the residual stream, and what is asked of them."""
