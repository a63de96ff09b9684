"""What both sides of a channel share: framing, values, functions, failures.

Standard library only, and little of it: every worker imports this before its first call.
"""
