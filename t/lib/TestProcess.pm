package TestProcess;

# The process that a test file runs in: free ports, and a start that does not depend on the caller.

use strict;
use warnings;
use Exporter qw( import );

BEGIN {
    # nohup, `&` in a script and a supervisor start children with signals ignored, and children inherit that: a bash that
    # starts with SIGINT ignored cannot trap it, and without SIGCHLD no exit status is kept.
    $SIG{$_} = 'DEFAULT' for qw( INT QUIT TERM PIPE CHLD );

    # nginx takes the sockets that this variable names for inherited ones.
    delete $ENV{NGINX};
}

use Socket qw( PF_INET SOCK_STREAM SOCK_DGRAM SOL_SOCKET SO_REUSEADDR INADDR_ANY pack_sockaddr_in unpack_sockaddr_in );
use Test::Builder;

our @EXPORT = qw( free_port );

{
    no warnings 'redefine';

    # "Bail out!" would end the whole suite; what one file cannot do is a failure of that file. Test::Nginx calls it too.
    *Test::Builder::BAIL_OUT = sub {
        my ($self, $reason) = @_;

        $self->diag($reason // "cannot go on");
        exit 255;
    };
}


sub bound ($$) {
    my ($type, $port) = @_;

    socket my $socket, PF_INET, $type, 0 or die "socket: $!";
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1 or die "SO_REUSEADDR: $!" if $type == SOCK_STREAM;
    bind $socket, pack_sockaddr_in($port, INADDR_ANY) or return undef;

    return $socket;
}


my @held;

# A TCP port that is free, for this process and its children. Bound without listening, it is not given to anybody else by the
# kernel, neither for port 0 nor for an outgoing connection, and with SO_REUSEADDR a server can bind it and listen. As far as
# can be seen now, the UDP port of the same number is free too.
sub free_port () {
    for (1 .. 100) {
        my $tcp = bound(SOCK_STREAM, 0) // die "no free TCP port: $!";
        my ($port) = unpack_sockaddr_in(getsockname $tcp);
        push @held, $tcp;
        return $port if bound(SOCK_DGRAM, $port);
    }

    die "no port that is free for TCP and UDP";
}


1;
