"""What the README's figures come from: ``nullworker bench`` runs these, and each prints what its figures are of."""
