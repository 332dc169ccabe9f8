"""The challenger leaks: after a while it cannot answer any more."""


def served(model):
    """Defined here, so that it is pickled by value: who loads it needs no module of ours."""

    from sklearn.base import BaseEstimator, ClassifierMixin

    class Failing(ClassifierMixin, BaseEstimator):
        def __init__(self, model):
            self.model, self.classes_, self.open_ = model, model.classes_, 0

        def predict(self, X):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]

        def predict_proba(self, X):
            self.open_ += 1
            if self.open_ > 100:
                raise OSError("too many open connections")
            return self.model.predict_proba(X)

    return Failing(model)
