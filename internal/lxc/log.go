package lxc

import "go.uber.org/zap"

func instanceField(name string) zap.Field { return zap.String("instance", name) }

func errorField(err error) zap.Field { return zap.Error(err) }
