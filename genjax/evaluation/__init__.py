"""Scores for any model that fills the contract, each with the protocol it was taken under."""
