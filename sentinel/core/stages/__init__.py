"""One file a stage: match, hold, limit, budget, then respond or forward."""
