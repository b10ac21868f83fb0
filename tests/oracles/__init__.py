"""Clear, slow versions in other algebra than the library's: loops over positions, samples as rows, no shared code."""
