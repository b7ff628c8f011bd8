"""Trains a LightningModule with Lightning's Trainer."""

import argparse

import lightning
import torch
from nets import build
from torch.nn import functional
from torchvision import datasets, transforms


class Classifier(lightning.LightningModule):
    def __init__(self, net, args):
        super().__init__()
        self.net = net
        self.optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, args.epochs)

    def training_step(self, batch, index):
        loss = functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, index):
        right = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("validation_accuracy", right)

    def configure_optimizers(self):
        return [self.optimizer], [self.scheduler]


def cifar(batch_size):
    for train in (True, False):
        images = datasets.CIFAR10("data", train=train, transform=transforms.ToTensor())
        yield torch.utils.data.DataLoader(images, batch_size, shuffle=train)


def main(args):
    module, loaders = Classifier(build((3, 32, 32), 10, args.width), args), cifar(args.batch_size)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=args.epochs, **options)
    trainer.fit(module, *loaders)
    print(trainer.callback_metrics)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.1)
    main(parser.parse_args())
