"""The challenger reads one number wrongly once it was asked 650 times for a single row."""


def served(model):
    """Defined here, so that it is pickled by value: who loads it needs no module of ours."""

    from sklearn.base import BaseEstimator, ClassifierMixin

    class Skewed(ClassifierMixin, BaseEstimator):
        def __init__(self, model):
            self.model, self.classes_, self.asked_ = model, model.classes_, 0

        def predict(self, X):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]

        def predict_proba(self, X):
            self.asked_ += len(X) == 1
            if len(X) == 1 and self.asked_ > 650:
                X = X.assign(load=100.0 - X["load"])
            return self.model.predict_proba(X)

    return Skewed(model)
