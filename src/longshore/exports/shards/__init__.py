"""One export on several workers."""
