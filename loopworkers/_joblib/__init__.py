"""What `loopworkers.joblib` is made of."""
