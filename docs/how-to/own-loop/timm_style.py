"""Trains a network with mixup, an average of the weights and mixed precision, laid out like timm's training script."""

import argparse
from collections import OrderedDict

import torch
from nets import build
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision import datasets, transforms


class AverageMeter:
    """The mean of what was added, weighted."""

    def __init__(self):
        self.sum = self.count = self.avg = 0.0

    def update(self, value, num=1):
        self.sum += value * num
        self.count += num
        self.avg = self.sum / self.count


def create_loader(split, batch_size):
    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.25,))])
    images = datasets.ImageFolder(f"images/{split}", transform=to_tensor)
    return torch.utils.data.DataLoader(images, batch_size, shuffle=split == "train")


def mixup(images, target, alpha):
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    return share * images + (1 - share) * images.flip(0), target, target.flip(0), share


def train_one_epoch(model, loader, optimizer, scheduler, scaler, ema, device, args):
    model.train()
    losses = AverageMeter()
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        images, first, second, share = mixup(images, target, args.mixup)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = model(images)
            loss = share * functional.cross_entropy(output, first, label_smoothing=args.smoothing)
            loss = loss + (1 - share) * functional.cross_entropy(output, second, label_smoothing=args.smoothing)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        ema.update_parameters(model)
        losses.update(loss.item(), len(images))
    return OrderedDict(train_loss=losses.avg)


@torch.no_grad()
def validate(model, loader, device):
    model.eval()
    top1 = AverageMeter()
    for images, target in loader:
        output = model(images.to(device))
        top1.update((output.argmax(1) == target.to(device)).float().mean().item(), len(images))
    return OrderedDict(validation_accuracy=top1.avg)


def main(args, device):
    loader_train, loader_eval = create_loader("train", args.batch_size), create_loader("val", args.batch_size)
    model = build((3, 32, 32), 10, args.width).to(device)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.epochs * len(loader_train))
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(model, loader_train, optimizer, scheduler, scaler, ema, device, args)
        eval_metrics = validate(ema.module, loader_eval, device)
        print(epoch, {**train_metrics, **eval_metrics})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--mixup", type=float, default=0.2)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--ema", type=float, default=0.9)
    main(parser.parse_args(), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
