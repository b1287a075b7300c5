"""Models: loading, files, families, where they write the residual stream, devices and memory."""
