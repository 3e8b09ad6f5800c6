# ruff: noqa: D102
"""Models as students write them, for the tests of what reads models."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class CourseBlocks(nn.Module):
    """Blocks in `nn.Sequential`, an average over the map, `view(-1, 10)`."""

    def __init__(self, dropout_value=0.1):
        super().__init__()
        self.convblock1 = nn.Sequential(
            nn.Conv2d(in_channels=1, out_channels=8, kernel_size=(3, 3), padding=0, bias=False),
            nn.ReLU(),
            nn.BatchNorm2d(8),
            nn.Dropout(dropout_value),
        )
        self.pool1 = nn.MaxPool2d(2, 2)
        self.convblock2 = nn.Sequential(
            nn.Conv2d(in_channels=8, out_channels=12, kernel_size=(3, 3), padding=1, bias=False),
            nn.ReLU(),
            nn.BatchNorm2d(12),
            nn.Dropout(dropout_value),
        )
        self.gap = nn.Sequential(nn.AvgPool2d(kernel_size=13))
        self.convblock3 = nn.Sequential(nn.Conv2d(12, 10, kernel_size=(1, 1), bias=False))

    def forward(self, x):
        x = self.convblock1(x)
        x = self.pool1(x)
        x = self.convblock2(x)
        x = self.gap(x)
        x = self.convblock3(x)
        x = x.view(-1, 10)
        return F.log_softmax(x, dim=-1)


class Functional(nn.Module):
    """The tutorial's net: layers as attributes, the rest as functions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 8, 5)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(200, 20)
        self.fc2 = nn.Linear(20, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, p=0.5, training=self.training)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


class Perceptron(nn.Module):
    """A multilayer perceptron on flattened images, with norms of flat features."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(28 * 28, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.1), nn.Linear(16, 10)
        )

    def forward(self, x):
        return self.layers(x.view(x.size(0), -1))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, with a 1x1 where the shape changes."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class TinyResNet(nn.Module):
    """A residual net: a stem, two blocks, a mean over the map."""

    def __init__(self, width=4):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            [ResidualBlock(width, width), ResidualBlock(width, 2 * width, stride=2)]
        )
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean(dim=(2, 3)))


class Fire(nn.Module):
    """Squeeze, then expand along two paths."""

    def __init__(self, inputs, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, kernel_size=1)
        self.left = nn.Conv2d(squeeze, expand, kernel_size=1)
        self.right = nn.Conv2d(squeeze, expand, kernel_size=3, padding="same")
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.squeeze(x))
        return torch.cat([self.act(self.left(x)), self.act(self.right(x))], dim=1)


class SqueezeNet(nn.Module):
    """Two fire blocks and a classifying convolution."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2),
            nn.PReLU(6),
            Fire(6, 3, 4),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            Fire(8, 4, 6),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.2), nn.Conv2d(12, 10, 1), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()
        )

    def forward(self, x):
        return self.classifier(self.features(x))


def depthwise_separable(inputs, outputs):
    """Return a depthwise and a pointwise convolution with norm and activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class MobileNet(nn.Module):
    """Depthwise separable blocks, adaptive pools, both kinds of global pooling side by side."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
            depthwise_separable(4, 8),
            nn.AdaptiveAvgPool2d(7),
            depthwise_separable(8, 8),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.body(x)
        mean = F.adaptive_avg_pool2d(x, 1).flatten(1)
        largest = F.adaptive_max_pool2d(x, 1).flatten(1)
        return self.head(torch.cat((mean, largest), dim=1))


class DeadBlock(nn.Module):
    """A padded block that is registered and that nobody calls."""

    def __init__(self):
        super().__init__()
        self.block1 = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=4, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Dropout(0.05),
        )
        self.block2 = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Dropout(0.05),
        )
        self.out = nn.Conv2d(16, 10, 1, bias=False)
        self.gap = nn.AvgPool2d(7)
        self.spare = nn.Dropout(0.3)

    def forward(self, x):
        x = self.gap(self.out(self.block1(x)))
        return F.log_softmax(x.view(-1, 10), dim=-1)


class SharedDropout(nn.Module):
    """One dropout and one pool for all, and a channel dropout where a map is one pixel."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 8, 3)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.1)
        self.drop2d = nn.Dropout2d(0.2)
        self.last = nn.Conv2d(8, 10, 5)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, x):
        x = self.drop(self.pool(self.conv1(x).relu()))
        x = self.drop(self.pool(self.conv2(x).relu()))
        x = self.drop2d(self.last(x)).squeeze(-1).squeeze(-1)
        return self.softmax(x)


class Recurrent(nn.Module):
    """One block applied three times, each time with a norm of its own."""

    def __init__(self, times=3):
        super().__init__()
        self.enter = nn.Conv2d(1, 6, 3, stride=2)
        self.again = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(times))
        self.leave = nn.Linear(6, 10)

    def forward(self, x):
        x = F.relu(self.enter(x))
        for norm in self.norms:
            x = F.relu(norm(self.again(x)))
        return self.leave(x.amax(dim=(-2, -1))) * 0.5


class DenseBlock(nn.Module):
    """Every layer reads all before it."""

    def __init__(self, growth=3):
        super().__init__()
        self.first = nn.Conv2d(1, growth, 3, stride=2, padding=1)
        self.second = nn.Conv2d(growth, growth, 3, padding=1)
        self.third = nn.Conv2d(2 * growth, growth, 3, padding=1)
        self.head = nn.Conv2d(3 * growth, 10, 1)

    def forward(self, x):
        a = F.relu(self.first(x))
        b = F.relu(self.second(a))
        c = F.relu(self.third(torch.cat([a, b], 1)))
        x = torch.cat([a, b, c], 1)
        return F.avg_pool2d(self.head(x), kernel_size=x.size()[2:]).reshape(x.shape[0], -1)
