"""State that outlives a request, each machine one total table."""
