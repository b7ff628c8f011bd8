"""Trains a network on CIFAR-10, as many tutorials do."""

import argparse

import torch
from nets import build
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision import datasets, transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def loaders(batch_size):
    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    train_set = datasets.CIFAR10("data", train=True, transform=to_tensor)
    test_set = datasets.CIFAR10("data", train=False, transform=to_tensor)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size, shuffle=True)
    return train_loader, torch.utils.data.DataLoader(test_set, batch_size)


def accuracy(model, loader, device):
    model.eval()
    with torch.no_grad():
        right = sum((model(images.to(device)).argmax(1) == labels.to(device)).sum() for images, labels in loader)
    return right / len(loader.dataset)


def train(args, device):
    train_loader, test_loader = loaders(args.batch_size)
    model = build((3, 32, 32), 10, args.width).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.decay)
    scheduler = CosineAnnealingLR(optimizer, args.epochs)
    for epoch in range(args.epochs):
        model.train()
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(f"epoch {epoch}: loss {loss:.3f}, accuracy {accuracy(model, test_loader, device):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=5e-4)
    train(parser.parse_args(), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
