"""How many replicas each pool wants: pure decisions, which Ray pickles without what they import."""
