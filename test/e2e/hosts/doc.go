// Package hosts gives tests two real container hosts: Debian guests with OpenZFS and Incus, joined by a
// bridge, that can lose power, lose their network and come back.
//
// The guests are User Mode Linux kernels, that is ordinary processes: neither hardware virtualisation nor
// a ZFS module is needed on the machine that runs the tests, only root and Debian packages.
//
//	cluster, err := hosts.Up(ctx, hosts.Options{})
//	defer cluster.Down()
//	out, err := cluster.Hosts[0].Run(ctx, "zfs list")
//
// Everything slow is done once and cached (see [Build]): the kernel, the root file system, the container
// images, and a pair of prepared hosts whose pool and Incus are set up. Up boots copies of that pair.
//
// The guests live in a network namespace. A test that calls [Main] from TestMain runs inside it and has
// the address 10.99.0.254 there; other programs reach the guests with [Cluster.DialContext].
package hosts
