"""Train feed-forward networks to remember random facts, delete their neurons, and edit one fact at a time (about three minutes on one core).

    make record NAME=facts

A fact is a random vector of width 32, the subject, and one of 64 answers, which a fixed random matrix reads from what the network
writes. A network is right where the answer has the largest logit. Each width is trained at the best of five learning rates, which is
chosen at `TUNED` facts with the first seed.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from builder.records import record
from transformer_course.config import Config
from transformer_course.feed_forward import FeedForward

WIDTH, ANSWERS = 32, 64
NEURONS = (0, 8, 32, 128)                                            # 0: one matrix, no hidden layer
FACTS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
TUNED, EDITED = 2048, 512                                            # facts
RATES = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
STEPS, SEEDS = 500, (0, 1, 2)
EDITS, SURE, NOISE = 40, 0.9, (0.1, 0.3)                             # facts edited, probability wanted, noise on a subject


def facts(number: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    "Subjects (N, 32), answers (N), and the matrix (64, 32) that reads an answer."
    generator = torch.Generator().manual_seed(seed)
    readout = torch.randn(ANSWERS, WIDTH, generator=generator) / WIDTH**0.5
    return torch.randn(number, WIDTH, generator=generator), torch.randint(0, ANSWERS, (number,), generator=generator), readout


def network(neurons: int) -> nn.Module:
    if not neurons:
        return nn.Linear(WIDTH, WIDTH)
    return FeedForward(Config(vocab_size=ANSWERS, max_len=1, d_model=WIDTH, d_ff=neurons, activation="relu"))


def train(neurons: int, number: int, rate: float, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    one = network(neurons)
    subjects, answers, readout = facts(number, seed)
    optimizer = torch.optim.Adam(one.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(one(subjects) @ readout.T, answers).backward()
        optimizer.step()
        schedule.step()
    return one


@torch.no_grad()
def right(one: nn.Module, number: int, seed: int) -> Tensor:
    "Which of the facts it knows."
    subjects, answers, readout = facts(number, seed)
    return (one(subjects) @ readout.T).argmax(-1) == answers


def recall(neurons: int, number: int, rate: float, seed: int) -> float:
    return right(train(neurons, number, rate, seed), number, seed).float().mean().item()


@torch.no_grad()
def deleted(one: FeedForward, seed: int) -> dict:
    "How many neurons a fact uses, and how many facts are lost with each neuron."
    known = right(one, EDITED, seed)
    subjects, answers, readout = facts(EDITED, seed)
    hidden = one.hidden(subjects)
    lost = []
    for neuron in range(hidden.shape[1]):
        without = hidden.clone()
        without[:, neuron] = 0
        lost.append(int((known & ((one.down(without) @ readout.T).argmax(-1) != answers)).sum()))
    return {"known": int(known.sum()), "active": (hidden > 0).float().sum(1).mean().item(), "lost": lost}


def wanted(output: Tensor, readout: Tensor, answer: int) -> Tensor:
    "The output moved until the new answer has the wanted probability, by gradient descent on its cross-entropy."
    output = output.clone().requires_grad_()
    while (loss := F.cross_entropy(readout @ output, torch.tensor(answer))) > -torch.tensor(SURE).log():
        (slope,) = torch.autograd.grad(loss, output)
        output = (output - 0.5 * slope).detach().requires_grad_()
    return output.detach()


def rank_one(one: FeedForward, key: Tensor, along: Tensor, new: Tensor) -> FeedForward:
    "The network with its second matrix changed along one direction, so that this hidden vector gives that output."
    edited = network(one.up.out_features)
    edited.load_state_dict(one.state_dict())
    with torch.no_grad():
        change = new - one.down(key)
        edited.down.weight += torch.outer(change, along) / (along @ key)
    return edited


def fine_tuned(one: FeedForward, subject: Tensor, readout: Tensor, answer: int) -> FeedForward:
    "The network after gradient descent on all its parameters, on the new fact alone."
    edited = network(one.up.out_features)
    edited.load_state_dict(one.state_dict())
    optimizer = torch.optim.SGD(edited.parameters(), lr=0.02)
    while (loss := F.cross_entropy(readout @ edited(subject), torch.tensor(answer))) > -torch.tensor(SURE).log():
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return edited


def edits(one: FeedForward, seed: int) -> dict:
    "Each way of editing: how often it succeeds, how many other facts it breaks, and how often a noisy subject gets the new answer too."
    subjects, answers, readout = facts(EDITED, seed)
    known = right(one, EDITED, seed)
    with torch.no_grad():
        hidden = one.hidden(subjects)
    generator = torch.Generator().manual_seed(100 + seed)
    found = {way: {"success": [], "broken": [], **{f"noise {size}": [] for size in NOISE}} for way in ("rank one", "rank one, whitened", "fine-tuned")}
    for fact in range(EDITS):
        answer = int((answers[fact] + 1 + torch.randint(0, ANSWERS - 1, (1,), generator=generator)) % ANSWERS)
        key, others = hidden[fact], hidden[torch.arange(EDITED) != fact]
        covariance = others.T @ others / len(others) + 1e-3 * torch.eye(len(key))
        new = wanted(one.down(key).detach(), readout, answer)
        edited = {
            "rank one": rank_one(one, key, key, new),
            "rank one, whitened": rank_one(one, key, torch.linalg.solve(covariance, key), new),
            "fine-tuned": fine_tuned(one, subjects[fact], readout, answer),
        }
        noise = torch.randn(20, WIDTH, generator=generator)
        for way, other in edited.items():
            with torch.no_grad():
                now = (other(subjects) @ readout.T).argmax(-1)
                found[way]["success"].append(float(now[fact] == answer))
                lost = known & (now != answers)
                lost[fact] = False
                found[way]["broken"].append(int(lost.sum()))
                for size in NOISE:
                    said = (other(subjects[fact] + size * noise) @ readout.T).argmax(-1)
                    found[way][f"noise {size}"].append((said == answer).float().mean().item())
    with torch.no_grad():
        near = {f"noise {size}": ((one(subjects[:EDITS, None] + size * torch.randn(EDITS, 20, WIDTH, generator=generator)) @ readout.T).argmax(-1)
                == answers[:EDITS, None]).float().mean().item() for size in NOISE}
    return found | {"before": near}


def measured(*_) -> dict:
    rates = {n: max(RATES, key=lambda rate: recall(n, TUNED, rate, SEEDS[0])) for n in NEURONS}
    curves = {n: {number: [recall(n, number, rates[n], seed) for seed in SEEDS] for number in FACTS} for n in NEURONS}
    memories = {seed: train(max(NEURONS), EDITED, rates[max(NEURONS)], seed) for seed in SEEDS}
    parameters = {n: sum(p.numel() for p in network(n).parameters()) for n in NEURONS}
    return {
        "width": WIDTH, "answers": ANSWERS, "steps": STEPS, "rates": rates, "parameters": parameters, "recall": curves, "edited": EDITED,
        "neurons": max(NEURONS), "edits": EDITS, "deleted": [deleted(one, seed) for seed, one in memories.items()],
        "editing": [edits(one, seed) for seed, one in memories.items()],
    }


if __name__ == "__main__":
    print(record("facts", measured(), __file__))
