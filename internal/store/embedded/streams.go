package embedded

import (
	"context"

	"google.golang.org/grpc"
)

// endStreamsWith ends every stream of the gRPC server when closing does. A graceful stop alone would wait out its
// timeout of seconds for the watches of other agents, which never end by themselves.
func endStreamsWith(closing context.Context) grpc.ServerOption {
	return grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(closing, cancel)()
		return handle(server, boundStream{stream, ctx})
	})
}

// boundStream is a stream with a context that ends earlier.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s boundStream) Context() context.Context { return s.ctx }
