"""Guards measure, while a model trains, whether the accumulated gradient is that of the whole batch.

| module | for | class |
|---|---|---|
| `trainer` | transformers `Trainer` and the trainers that are built on it | `GaAuditCallback` |
| `lightning` | Lightning | `LightningGuard` |
| `loop` | a training loop of your own | `guard` |
| `measuring` | any place between the last backward pass and the clipping | `measure` |

`_reference` computes the reference gradient for all of them, `_state` leaves the training as it was, `_reading` tells the
faults apart, `_words` writes the sentences, `_watch` holds the schedule. Nothing here imports torch before it is used.
"""
