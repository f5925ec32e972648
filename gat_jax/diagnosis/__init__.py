"""Why do nodes come out equal? Other people's graphs, weights and models, and a remedy."""
