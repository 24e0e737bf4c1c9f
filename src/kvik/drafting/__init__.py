"""Which tokens a request may go on with, guessed from text that is there already, and how many guesses pay.

Torch-free. Knows token ids, no tensor, no request and no block; whoever verifies the drafts decides what is true.
"""

from __future__ import annotations

from kvik.drafting.drafter import Candidate, Drafter

__all__ = ["Candidate", "Drafter"]
