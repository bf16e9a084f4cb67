"""Understanding LLM traffic: what a request asks for, what an answer took, what it may take, and what it costs."""
