"""The judge as an integration: reads score and evidence files and asks the statistics of `tools.judge`.

Must not: compute a statistic itself.
"""
