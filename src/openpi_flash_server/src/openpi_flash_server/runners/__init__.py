"""Where handlers run, one file each."""
