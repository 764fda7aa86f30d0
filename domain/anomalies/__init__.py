"""Detectors of abuse, and how much risk a licence carries: pure rules on what the two logs say."""
