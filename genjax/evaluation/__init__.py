"""Scores for any model that fills the contract, each with its protocol."""
