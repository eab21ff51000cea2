"""Training steps to trace, plan and train; each `step` runs as it is, or with another batch_size.

    examples.projection:step      Ravi's joint training on MNIST's shape (also step_sgd)
    examples.mlp:step             a multilayer perceptron
    examples.lenet:step           LeNet-5, 28 x 28
    examples.vgg:step             VGG-16 (also step_small)
    examples.resnet:step          ResNet-18, 224 x 224 (also step_small: 32 x 32, step_50: ResNet-50)
    examples.mobilenet:step       MobileNetV2, 224 x 224 (also step_small)
    examples.unet:step            U-Net, 256 x 256 (also step_small)
    examples.bert:step            BERT base, masked language model (also step_tiny)
    examples.gpt2:step            GPT-2 small, next tokens (also step_tiny)
    examples.vit:step             ViT-B/16, 224 x 224 (also step_tiny)
    examples.lstm:step            a text classifier of two LSTM layers

A `step` returns (model, loss_fn, optimizer, batch); see `examples.parts.Step`.
"""
