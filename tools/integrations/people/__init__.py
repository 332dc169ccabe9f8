"""People: puts a strategic trade-off before a person, with concrete options, and hands back what was chosen.

Holds the spec, the options of a search's Pareto front (`tradeoff`, pure) with their plot and words (`plot`, `words`,
pure), the backend and the tool class. Never asks and never chooses by itself: the gateway does, under the policy, and
hands the answer over.
"""
