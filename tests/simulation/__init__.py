"""The whole core in one seeded virtual time: replicas, store, senders, people, targets, and what befalls them."""
