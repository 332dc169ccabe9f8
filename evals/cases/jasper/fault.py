"""The challenger answers slowly."""


def served(model):
    """Defined here, so that it is pickled by value: who loads it needs no module of ours."""

    import time

    from sklearn.base import BaseEstimator, ClassifierMixin

    class Slow(ClassifierMixin, BaseEstimator):
        def __init__(self, model):
            self.model, self.classes_ = model, model.classes_

        def predict(self, X):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]

        def predict_proba(self, X):
            time.sleep(0.1)
            return self.model.predict_proba(X)

    return Slow(model)
