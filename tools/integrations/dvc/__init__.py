"""DVC: staging of the run's data slices and content-addressed versions of them.

Holds: the spec, the backend over `dvc.repo.Repo`, and the splitting of tables into slices.

Must not: judge the data (that is Great Expectations and Evidently), train, or reach Git.
"""
