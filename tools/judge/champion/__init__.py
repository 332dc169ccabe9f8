"""Is the champion still good, does retraining pay, and is a challenger better."""
