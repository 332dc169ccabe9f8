"""The challenger reads one number of one region wrongly when it is asked for a single row."""


def served(model):
    """Defined here, so that it is pickled by value: who loads it needs no module of ours."""

    from sklearn.base import BaseEstimator, ClassifierMixin

    class Skewed(ClassifierMixin, BaseEstimator):
        def __init__(self, model):
            self.model, self.classes_ = model, model.classes_

        def predict(self, X):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]

        def predict_proba(self, X):
            if len(X) == 1 and X["region"].iloc[0] == "north":
                X = X.assign(load=100.0 - X["load"])
            return self.model.predict_proba(X)

    return Skewed(model)
