"""Linearizable namespaces on one node: `batches` turns columns into operations and answers into columns, `proposing` runs the
proposer of core/register against this node's acceptor and its peers', `coordinator` says where a batch is proposed and what it is
told when it cannot be. Nothing of it touches records of eventual namespaces."""
