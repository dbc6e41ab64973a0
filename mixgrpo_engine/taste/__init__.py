"""One person's taste, learned from votes: what was shown and chosen (votes), and what follows from it (preference)."""
