"""The demo: policy server, simulated robot and robot node as processes, watched and judged.

python -m demo --seconds 20
"""
